// Sets up each group of runs.
"use strict";

const articles = [...document.querySelectorAll(".group")];
const views = data.groups.map((group, i) => makeView(articles[i], group));
for (const view of views) {
  setUpTable(view);
  setUpFilter(view);
  setUpAverages(view);
  setUpCurves(view);
  setUpLegend(view);
  setUpProgress(view);
  setUpScatter(view);
  setUpParallel(view);
  const group = setUpGrouping(view);
  colorRuns(view);
  view.listeners.push(() => colorRows(view));
  group();
}
const differences = setUpDifferences(views);

dark.addEventListener("change", () => {
  for (const view of views) {
    colorRuns(view);
    view.changed();
  }
});
