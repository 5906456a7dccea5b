// Learning curves, best value so far, and metric against a setting, drawn by Plotly when they scroll into view.
"use strict";

const escapeText = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const shortNumber = (value) => typeof value === "number" ? String(Number(value.toPrecision(5))) : String(value);
const isNumber = (value) => typeof value === "number";
const CONFIG = {
  displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

/** Id and settings of a run, as text of its tooltip. */
function description(run) {
  const settings = data.settings.filter((setting) => run.settings[setting.key] != null)
    .map((setting) => `${setting.name} ${shortNumber(run.settings[setting.key])}`).slice(0, 12);
  return [`<b>${escapeText(run.id)}</b>`, ...settings.map(escapeText)].join("<br>");
}
const descriptions = data.runs.map(description);

/** Whether positive values span more than two decades, so that the axis should be logarithmic. */
function spansDecades(values) {
  const known = values.filter((value) => isNumber(value) && Number.isFinite(value));
  return known.length > 1 && Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) > 100;
}

function layout(x, y) {
  const axis = {
    gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), ticks: "", automargin: true,
    tickfont: { color: css("--soft"), size: 12 }, exponentformat: "e",
  };
  const title = (text) => ({ text: escapeText(text), font: { color: css("--soft"), size: 13 }, standoff: 12 });
  const complete = (options) => ({ ...axis, ...options, title: title(options.title) });
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
  return { type: "log", dtick: decades < 1.5 ? "D2" : Math.max(1, Math.ceil(decades / 8)) };
};

/** An axis of integers: no ticks at fractions. */
const integerAxis = (values) => ({ tickformat: ",d", ...(values.every((value) => value < 10) ? { dtick: 1 } : { nticks: 12 }) });

/** Draws a section's plot when it scrolls into view, and again when its data have changed; returns the redraw. */
function drawWhenVisible(section, draw) {
  section.hidden = false;
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
  }, { rootMargin: "200px" }).observe(section);
  page.listeners.push(refresh);
  return refresh;
}

/** Shows a message instead of a plot; an empty text removes it. */
function showMessage(area, text) {
  area.querySelector(".message")?.remove();
  if (text) {
    const message = document.createElement("p");
    message.className = "message";
    message.textContent = text;
    area.append(message);
  }
}

/** The ranges that the user has zoomed a plot to, and its `uirevision`, what they are ranges of; null if not drawn. */
function zoomOf(area) {
  if (!area.layout) return null;
  const zoomed = ["xaxis", "yaxis"].filter((axis) => area.layout[axis].autorange === false);
  return { of: area.layout.uirevision ?? null, ranges: Object.fromEntries(zoomed.map((axis) => [axis, area.layout[axis].range])) };
}

/** Draws a plot and links it with the table. `runs[trace][point]` or `runs[trace]` is the index of a run. */
function plot(area, traces, options, runs) {
  const zoom = zoomOf(area) ?? area.zoom; // that of the reloaded page, until this one is drawn
  if (zoom && zoom.of === (options.uirevision ?? null)) {
    for (const [axis, range] of Object.entries(zoom.ranges)) options[axis] = { ...options[axis], range, autorange: false };
  }
  Plotly.react(area, traces, options, CONFIG);
  area.runs = runs;
  if (area.linked) return;
  area.linked = true;
  const runOf = (event) => {
    const { curveNumber, pointNumber } = event.points[0];
    const run = area.runs[curveNumber];
    return Array.isArray(run) ? run[pointNumber] : run;
  };
  area.on("plotly_hover", (event) => page.highlight(runOf(event) ?? null));
  area.on("plotly_unhover", () => page.highlight(null));
  area.on("plotly_click", (event) => {
    const run = runOf(event);
    if (run === undefined || run === null) return;
    page.pin(run);
    rowOf.get(run).scrollIntoView({ block: "nearest" });
  });
}

// --------------------------------------------------------------------------------------------------- learning curves

const curves = document.querySelector("#curves");
const curveArea = curves.querySelector(".plot");
const curveMetric = document.getElementById("curve-metric");
const curveX = document.getElementById("curve-x");
const curveLog = document.getElementById("curve-log");

/** A run's curve over steps, or over epochs with the last value of each. */
function curveOf(run, metric, over) {
  const curve = run.curves[metric];
  if (!curve || over === "step") return curve && { x: curve.step, y: curve.value };
  const byEpoch = new Map();
  curve.epoch.forEach((epoch, i) => { if (epoch !== null) byEpoch.set(epoch, curve.value[i]); });
  return { x: [...byEpoch.keys()], y: [...byEpoch.values()] };
}

function drawCurves() {
  const metric = curveMetric.value;
  const numbers = page.shown().filter((i) => curveOf(data.runs[i], metric, curveX.value)?.x.length).reverse();
  const shownCurves = numbers.map((i) => curveOf(data.runs[i], metric, curveX.value));
  const few = numbers.length <= 20;
  const traces = numbers.map((number, i) => ({  // worst first, so that the best are on top
    ...shownCurves[i], type: "scatter", uid: `run${number}`, line: { color: page.colors[number], width: few ? 1.8 : 1.3 },
    mode: shownCurves[i].x.length < 3 || (few && shownCurves[i].x.length <= 25) ? "lines+markers" : "lines",
    marker: { size: 4.5, color: page.colors[number] }, meta: [descriptions[number]],
    hovertemplate: `%{meta[0]}<br>${curveX.value} %{x}: <b>%{y:.5~g}</b><extra></extra>`,
  }));
  const values = curveLog.checked ? shownCurves.flatMap((curve) => curve.y) : [];
  const y = { title: metric, ...(values.some((value) => value > 0) ? logarithmic(values) : { nticks: 8 }) };
  showMessage(curveArea, data.metrics.length === 0 ? "No run has logged a metric yet."
    : numbers.length === 0 ? `None of the runs shown has ${metric}.` : "");
  const ticks = curveX.value === "epoch" ? integerAxis(shownCurves.flatMap((curve) => curve.x)) : { tickformat: ",~r" };
  const x = { title: curveX.value, ...ticks };
  const options = { ...layout(x, y), height: 380, uirevision: [metric, curveX.value, curveLog.checked].join() };
  plot(curveArea, traces, options, numbers);
  highlightCurve(page.pinned);
}

function highlightCurve(run) {
  for (const lit of curveArea.querySelectorAll(".trace.lit")) lit.classList.remove("lit");
  const trace = run === null ? null : curveArea.querySelector(`.trace.tracerun${run}`);
  trace?.classList.add("lit");
  trace?.parentNode.append(trace);
  curveArea.classList.toggle("dim", Boolean(trace));
}

for (const metric of data.metrics) curveMetric.add(new Option(metric, metric, false, metric === data.metric));
function logIfNeeded() {
  const values = data.runs.flatMap((run) => run.curves[curveMetric.value]?.value ?? []);
  let [low, high] = [Infinity, 0];
  for (const value of values) if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  curveLog.checked = low > 0 && high / low > 100;
}
logIfNeeded();
const refreshCurves = drawWhenVisible(curves, drawCurves);
page.highlighters.push(highlightCurve);
curveMetric.addEventListener("change", () => { logIfNeeded(); refreshCurves(); });
for (const control of [curveX, curveLog]) control.addEventListener("change", refreshCurves);

// -------------------------------------------------------------------------------------------------- best value so far

const progress = document.getElementById("progress");
const progressArea = progress.querySelector(".plot");
const better = (a, b) => data.maximize ? a > b : a < b;

function drawProgress() {
  const traces = [];
  const runs = [];
  Object.entries(data.sweeps).forEach(([sweep, name], i) => {
    const trials = data.runs.map((run, number) => ({ ...run, number }))
      .filter((run) => run.sweep === sweep && run.best !== null).sort((a, b) => a.trial - b.trial);
    let best = null;
    const soFar = trials.map((trial) => (best = best === null || better(trial.best, best) ? trial.best : best));
    const several = Object.keys(data.sweeps).length > 1;
    const color = several ? HUES[dark.matches ? "dark" : "light"][i % MAX_HUES] : css("--accent");
    traces.push({
      x: trials.map((trial) => trial.trial), y: soFar, type: "scatter", mode: "lines", name: escapeText(name),
      line: { shape: "hv", color: color, width: 2.2 }, hoverinfo: "skip",
    }, {
      x: trials.map((trial) => trial.trial), y: trials.map((trial) => trial.best), type: "scatter", mode: "markers",
      marker: { size: 7, color: several ? color : trials.map((trial) => page.ranked[trial.number]), line: { width: 1, color: css("--card") } },
      text: trials.map((trial) => descriptions[trial.number]), showlegend: false,
      hovertemplate: "%{text}<br>trial %{x}: <b>%{y:.5~g}</b><extra></extra>",
    });
    runs.push(null, trials.map((trial) => trial.number));
  });
  const options = { ...layout({ title: "trial", ...integerAxis(traces.flatMap((trace) => trace.x)) }, { title: `best ${data.metric}`, nticks: 7 }), height: 340 };
  options.showlegend = Object.keys(data.sweeps).length > 1;
  options.legend = { orientation: "h", y: 1.02, yanchor: "bottom" };
  plot(progressArea, traces, options, runs);
}

const trials = data.runs.filter((run) => run.trial !== null);
if (data.metric && trials.filter((run) => run.best !== null).length > 1) {
  const without = trials.filter((run) => run.best === null).length;
  progress.querySelector(".note").textContent = without ? `${without} of ${trials.length} trials have no ${data.metric}` : "";
  drawWhenVisible(progress, drawProgress);
}

// -------------------------------------------------------------------------------------------- metric against a setting

const scatter = document.getElementById("scatter");
const scatterArea = scatter.querySelector(".plot");
const scatterX = document.getElementById("scatter-x");
const ranked = data.runs.map((_, i) => i).filter((i) => data.runs[i].best !== null);

/** The settings whose values are all numbers, at least two of them distinct. */
const numeric = data.settings.filter(({ key }) => {
  const values = ranked.map((i) => data.runs[i].settings[key]).filter((value) => value != null);
  return values.every(isNumber) && new Set(values).size > 1;
});

function drawScatter() {
  const { key, name } = data.settings.find((setting) => setting.key === scatterX.value);
  const shown = new Set(page.shown());
  const numbers = ranked.filter((i) => shown.has(i) && data.runs[i].settings[key] != null).reverse();
  const x = numbers.map((i) => data.runs[i].settings[key]);
  const trace = {
    x, y: numbers.map((i) => data.runs[i].best), type: "scatter", mode: "markers", text: numbers.map((i) => descriptions[i]),
    meta: [escapeText(data.metric)],  // in the template itself, a name with %{…} would be filled in
    marker: { size: 9, color: numbers.map((i) => page.ranked[i]), opacity: 0.9, line: { width: 1, color: css("--card") } },
    hovertemplate: "%{text}<br>%{meta[0]}: <b>%{y:.5~g}</b><extra></extra>",
  };
  const kind = !x.every(isNumber) ? { type: "category" } : spansDecades(x) ? logarithmic(x) : { nticks: 8 };
  showMessage(scatterArea, numbers.length ? "" : `None of the runs shown has ${name}.`);
  if (kind.type === "category") trace.x = x.map(escapeText);
  const options = { ...layout({ title: key, ...kind }, { title: `best ${data.metric}`, nticks: 7 }), height: 340, uirevision: key };
  plot(scatterArea, [trace], options, [numbers]);
}

if (numeric.length && ranked.length >= 3) {
  const distinctValues = ({ key }) => new Set(ranked.map((i) => data.runs[i].settings[key])).size;
  const first = numeric.reduce((most, setting) => distinctValues(setting) > distinctValues(most) ? setting : most);
  for (const { key } of data.settings) scatterX.add(new Option(key, key, false, key === first.key));
  scatterX.addEventListener("change", drawWhenVisible(scatter, drawScatter));
  page.highlighters.push((run) => {
    const points = [...scatterArea.querySelectorAll("path.point")];
    const index = scatterArea.runs?.[0].indexOf(run) ?? -1;
    points.forEach((point, i) => point.classList.toggle("lit", i === index));
    scatterArea.classList.toggle("dim", run !== null && index >= 0);
  });
}

// What a reload keeps: the controls that the user has changed, as the others follow the data, and zoomed ranges.
const controls = [curveMetric, curveX, curveLog, scatterX];
const areas = { curves: curveArea, progress: progressArea, scatter: scatterArea };
for (const control of controls) control.addEventListener("change", () => { control.chosen = true; });

page.keepers.plots = {
  save: () => ({
    chosen: controls.filter((control) => control.chosen).map((control) => [control.id, control.value, control.checked]),
    zooms: Object.entries(areas).map(([name, area]) => [name, zoomOf(area) ?? area.zoom ?? null]),
  }),
  restore({ chosen, zooms }) {
    for (const [id, value, checked] of chosen) {
      const control = document.getElementById(id);
      if (control.options && ![...control.options].some((option) => option.value === value)) continue;
      Object.assign(control, { value, checked, chosen: true });
      if (control === curveMetric) logIfNeeded();
    }
    for (const [name, zoom] of zooms) areas[name].zoom = zoom;
  },
};

dark.addEventListener("change", () => {
  colorRuns();
  page.changed();
});
