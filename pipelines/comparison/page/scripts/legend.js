// The legend below the learning curves: the best runs or averages with their colors; a click selects a run.
"use strict";

const BEST_IN_LEGEND = 3;

function setUpLegend(view) {
  const legend = view.find(".curves .legend");

  const entry = (run, color, name, text) => {
    const swatch = element("i");
    swatch.style.setProperty("--run", color);
    const button = element("button", { type: "button" }, swatch, element("b", { textContent: name }), element("span", { textContent: text, title: text }));
    button.addEventListener("click", () => view.pin(run));
    button.addEventListener("pointerenter", () => view.highlight(run));
    button.addEventListener("pointerleave", () => view.highlight(null));
    return element("li", {}, button);
  };

  view.listeners.push(() => {
    const entries = view.groupBy
      ? clustersOf(view).map(({ runs, color, label }) => [runs[0], color, label, runs.length === 1 ? "1 run" : `mean of ${runs.length} runs`])
      : view.shown().map((run) => [run, view.colors[run], view.runs[run].id, settingsOf(view, view.runs[run]).slice(0, 4).join(" · ")]);
    const most = entries.length > MAX_HUES ? BEST_IN_LEGEND : MAX_HUES; // more have no color of their own
    const rest = entries.length - most;
    legend.hidden = entries.length < 2 && !view.groupBy;
    legend.replaceChildren(...entries.slice(0, most).map((each) => entry(...each)));
    const bands = view.groupBy ? "The bands are ± one standard deviation." : "";
    const more = rest > 0 ? `and ${rest} more, colored from worst to best. ` : "";
    if (bands || more) legend.append(element("li", { className: "note", textContent: more + bands }));
  });
}
