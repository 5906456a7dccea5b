// What all plots share: layout, axes, drawing when they scroll into view, and the link with the table.
"use strict";

const CONFIG = {
  displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

/** Runs Plotly's script, which takes longer than all else, when the page is shown already. */
function loadPlotly() {
  if (typeof Plotly === "undefined") document.head.append(element("script", { textContent: document.getElementById("plotly").textContent }));
}

function layout(x, y) {
  const axis = {
    gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), ticks: "", automargin: true,
    tickfont: { color: css("--soft"), size: 12 }, exponentformat: "e",
  };
  const title = (text) => ({ text: escapeText(text), font: { color: css("--soft"), size: 13 }, standoff: 12 });
  const complete = (options) => ({ ...axis, ...options, title: options.title ? title(options.title) : undefined });
  return {
    margin: { l: 56, r: 12, t: 8, b: 44 }, showlegend: false, hovermode: "closest", dragmode: "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: css("--ink") },
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 12 }, align: "left" },
    xaxis: complete(x), yaxis: complete(y),
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
  };
}

/** A logarithmic axis: ticks at 1, 2 and 5 of each decade if there are few decades, else at powers of ten. */
const logarithmic = (values) => {
  const known = values.filter((value) => value > 0);
  const decades = Math.log10(Math.max(...known) / Math.min(...known));
  return { type: "log", dtick: decades < 2 ? "D2" : Math.max(1, Math.ceil(decades / 8)) };
};

/** An axis of integers: no ticks at fractions. */
const integerAxis = (values) => ({ tickformat: ",d", ...(values.every((value) => value < 10) ? { dtick: 1 } : { nticks: 12 }) });

/** Calls `draw` when an element scrolls into view, and again when what it shows has changed; returns the redraw. */
function drawWhenVisible(view, element, draw) {
  let [visible, stale] = [false, true];
  const refresh = () => {
    stale = true;
    if (visible) {
      stale = false;
      draw();
    }
  };
  new IntersectionObserver((entries) => {
    visible = entries.at(-1).isIntersecting;
    if (visible && stale) refresh();
  }, { rootMargin: "200px" }).observe(element);
  view.listeners.push(refresh);
  return refresh;
}

/** Shows a message instead of a plot; an empty text removes it. */
function showMessage(area, text) {
  area.querySelector(".message")?.remove();
  if (text) area.append(element("p", { className: "message", textContent: text }));
}

/** The ranges that the user has zoomed a plot to, and its `uirevision`, what they are ranges of; null if not drawn. */
function zoomOf(area) {
  if (!area.layout) return null;
  const zoomed = ["xaxis", "yaxis"].filter((axis) => area.layout[axis].autorange === false);
  return { of: area.layout.uirevision ?? null, ranges: Object.fromEntries(zoomed.map((axis) => [axis, area.layout[axis].range])) };
}

/** Draws a plot and links it with the table. `runs[trace][point]` or `runs[trace]` is the index of a run. */
function plot(view, area, traces, options, runs) {
  const zoom = zoomOf(area) ?? area.zoom; // that of the reloaded page, until this one is drawn
  if (zoom && zoom.of === (options.uirevision ?? null)) {
    for (const [axis, range] of Object.entries(zoom.ranges)) options[axis] = { ...options[axis], range, autorange: false };
  }
  loadPlotly();
  area.style.height = `${options.height}px`; // when the window's size changes, Plotly takes that of the area
  Plotly.react(area, traces, options, CONFIG);
  area.runs = runs;
  if (area.linked) return;
  area.linked = true;
  const runOf = (event) => {
    const { curveNumber, pointNumber } = event.points[0];
    const run = area.runs[curveNumber];
    return Array.isArray(run) ? run[pointNumber] : run;
  };
  area.on("plotly_hover", (event) => view.highlight(runOf(event) ?? null));
  area.on("plotly_unhover", () => view.highlight(null));
  area.on("plotly_click", (event) => {
    const run = runOf(event);
    if (run === undefined || run === null) return;
    view.pin(run);
    view.rowOf.get(run).scrollIntoView({ block: "nearest" });
  });
}
