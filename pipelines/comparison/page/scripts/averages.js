// The table of averages: a row for each value of the settings grouped by, with mean ± standard deviation.
"use strict";

function setUpAverages(view) {
  const area = view.find(".averages");
  const table = area.querySelector("table");
  const { group } = view;

  const head = (text, kind) => element("th", { scope: "col", className: kind, textContent: text });
  const cell = (text, kind = "figure") => element("td", { className: kind, textContent: text });

  /** The last values of a test metric of some runs. */
  const tested = (runs, metric) => runs.map((run) => view.runs[run].curves[metric]?.value.at(-1))
    .filter((value) => isNumber(value));

  view.listeners.push(() => {
    area.hidden = view.groupBy === null;
    if (area.hidden) return;
    const names = new Map(group.settings.map(({ key, name }) => [key, name]));
    const heads = [head("", ""), ...view.groupBy.map((key) => head(names.get(key), "figure")), head("runs", "figure")];
    if (group.metric) heads.push(head(`best ${group.metric}, mean ± std`, "figure"), head("lowest", "figure"), head("highest", "figure"));
    heads.push(...group.tests.map((metric) => head(`${metric}, mean ± std`, "figure")));
    const rows = clustersOf(view).map(({ values, runs, best, color }) => {
      const swatch = element("i");
      swatch.style.setProperty("--run", color);
      const cells = values.map((value) => cell(value === null ? "–" : shortNumber(value)));
      if (group.metric) {
        const ends = best.length ? [Math.min(...best), Math.max(...best)].map(figure) : ["–", "–"];
        cells.push(...[cell(runs.length), cell(meanFigure(best), "figure best"), ...ends.map((end) => cell(end))]);
      } else cells.push(cell(runs.length));
      cells.push(...group.tests.map((metric) => cell(meanFigure(tested(runs, metric)))));
      const row = element("tr", {}, element("td", { className: "show" }, swatch), ...cells);
      row.addEventListener("pointerenter", () => view.highlight(runs[0]));
      row.addEventListener("pointerleave", () => view.highlight(null));
      return row;
    });
    table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
  });
}
