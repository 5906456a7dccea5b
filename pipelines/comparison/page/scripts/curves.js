// Learning curves: a panel for each metric chosen, of each run or of the mean of runs with equal settings.
"use strict";

const FEW = 20; // up to this many curves are drawn with points, and with the raw values behind the smoothed ones
const FIRST_PANELS = 3;

/** The metrics shown at first: the one ranked by, its counterpart in training, the losses, then the others. */
function firstMetrics({ metric, metrics, runs }) {
  const twin = metric?.replace(/^val\//, "train/");
  const rest = metrics.filter((name) => /^(train|val)\/[^/]+$/.test(name) && runs.some((run) => run.curves[name]?.step.length > 1));
  const wanted = [metric, twin, "val/loss", "train/loss", ...rest];
  return [...new Set(wanted)].filter((name) => metrics.includes(name)).slice(0, FIRST_PANELS);
}

/** Traces of a metric, the best on top, and the run of each: of every run shown, or of every cluster's mean. */
function tracesOf(view, metric, { over, weight, logY }) {
  const curve = (run) => curveOf(view.runs[run], metric, over);
  const smoothed = ({ x, y }) => ({ x, y: smooth(y, weight) });
  const hover = (name) => ({ meta: [name], hovertemplate: `%{meta[0]}<br>${over} %{x}: <b>%{y:.5~g}</b><extra></extra>` });
  const [traces, runs] = [[], []];
  const add = (trace, run) => {
    traces.push({ type: "scatter", mode: "lines", ...trace });
    runs.push(run);
  };
  if (view.groupBy) {
    for (const { label, color, runs: members } of clustersOf(view).reverse()) {
      const found = members.map(curve).filter(Boolean);
      if (!found.length) continue;
      const mean = meanCurve(weight ? found.map(smoothed) : found);
      const upper = mean.y.map((y, i) => y + mean.std[i]);
      const lower = mean.y.map((y, i) => logY ? Math.max(y - mean.std[i], y * 1e-3) : y - mean.std[i]);
      add({
        x: [...mean.x, ...mean.x.toReversed()], y: [...upper, ...lower.reverse()], fill: "toself", opacity: 0.18,
        fillcolor: color, line: { width: 0 }, hoverinfo: "skip", uid: `band${members[0]}`,
      }, null);
      add({
        x: mean.x, y: mean.y, std: mean.std, uid: `run${members[0]}`, line: { color, width: 2 }, marker: { size: 5, color },
        mode: mean.x.length < 3 ? "lines+markers" : "lines",
        ...hover(`<b>${escapeText(label)}</b><br>mean of ${found.length} run${found.length === 1 ? "" : "s"}`),
      }, members[0]);
    }
    return { traces, runs };
  }
  const shown = view.shown().map((run) => [run, curve(run)]).filter(([, found]) => found).reverse();
  const few = shown.length <= FEW;
  if (weight && few) {
    for (const [run, found] of shown) {
      add({ ...found, uid: `raw${run}`, opacity: 0.25, line: { color: view.colors[run], width: 1.2 }, hoverinfo: "skip" }, null);
    }
  }
  for (const [run, found] of shown) {
    const { x, y } = weight ? smoothed(found) : found;
    add({
      x, y, uid: `run${run}`, line: { color: view.colors[run], width: few ? 1.8 : 1.3 },
      mode: x.length < 3 || (few && x.length <= 25) ? "lines+markers" : "lines",
      marker: { size: x.length === 1 ? 7 : 4.5, color: view.colors[run] }, ...hover(view.descriptions[run]),
    }, run);
  }
  return { traces, runs };
}

function highlightCurve(area, view, run) {
  for (const lit of area.querySelectorAll(".trace.lit")) lit.classList.remove("lit");
  const cluster = run !== null && view.groupBy ? clustersOf(view).find(({ runs }) => runs.includes(run)) : null;
  const trace = run === null ? null : area.querySelector(`.trace.tracerun${cluster?.runs[0] ?? run}`);
  trace?.classList.add("lit");
  trace?.parentNode.append(trace);
  area.classList.toggle("dim", Boolean(trace));
}

/** Whether a metric's values are positive and span more than two decades. */
function needsLog(view, metric) {
  let [low, high] = [Infinity, 0];
  for (const value of view.runs.flatMap((run) => run.curves[metric]?.value ?? [])) {
    if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return low > 0 && high / low > 100;
}

/** Makes a panel: a metric to choose, and its plot. */
function addPanel(view, controls, metric) {
  const select = element("select", { className: "curve-metric", ariaLabel: "metric" });
  for (const name of view.group.metrics) select.add(new Option(name, name, false, name === metric));
  const area = element("div", { className: "plot" });
  const panel = element("figure", { className: "panel" }, element("figcaption", {}, select), area);
  const draw = () => {
    const { x: over, logX, logY: log, smoothing } = controls;
    const logY = log.chosen ? log.checked : needsLog(view, select.value);
    const { traces, runs } = tracesOf(view, select.value, { over: over.value, weight: Number(smoothing.value), logY });
    showMessage(area, view.group.metrics.length === 0 ? "No run has logged a metric yet."
      : traces.length === 0 ? `None of the runs shown has ${select.value}.` : "");
    if (areSingle(traces, runs)) {
      const [rows, numbers] = asRows(view, traces, runs);
      plot(view, area, rows, { ...rowsLayout(rows), uirevision: select.value }, numbers);
      highlightCurve(area, view, view.pinned);
      return;
    }
    const xs = traces.flatMap((trace) => trace.x);
    const ys = traces.flatMap((trace) => trace.y);
    const ticks = over.value === "epoch" ? integerAxis(xs) : { tickformat: ",~r", nticks: 7 };
    const x = { title: over.value, ...(logX.checked && xs.some((value) => value > 0) ? logarithmic(xs) : ticks) };
    const y = logY && ys.some((value) => value > 0) ? logarithmic(ys) : { nticks: 7 };
    const uirevision = [select.value, over.value, logX.checked, logY].join();
    plot(view, area, traces, { ...layout(x, y), height: 300, uirevision }, runs);
    highlightCurve(area, view, view.pinned);
  };
  const refresh = drawWhenVisible(view, panel, draw);
  select.addEventListener("change", () => {
    select.chosen = true;
    refresh();
  });
  const highlighter = (run) => { if (area.layout) highlightCurve(area, view, run); };
  view.highlighters.push(highlighter);
  view.find(".curves .panels").append(panel);
  const remove = () => {
    panel.remove();
    if (area.layout) Plotly.purge(area);
    view.listeners = view.listeners.filter((listener) => listener !== refresh);
    view.highlighters = view.highlighters.filter((each) => each !== highlighter);
  };
  return { select, area, remove };
}

function setUpCurves(view) {
  const section = view.find(".curves");
  const { metrics } = view.group;
  const controls = {
    x: section.querySelector(".curve-x"), logX: section.querySelector(".log-x"), logY: section.querySelector(".log-y"),
    smoothing: section.querySelector(".smoothing"), every: section.querySelector(".every-metric"),
  };
  const first = firstMetrics(view.group);
  const show = (names) => {
    for (const panel of view.panels ?? []) panel.remove();
    view.panels = (names.length ? names : [""]).map((metric) => addPanel(view, controls, metric));
    section.querySelector(".panels").dataset.count = Math.min(view.panels.length, FIRST_PANELS);
  };
  show(first);
  controls.logY.checked = first.length > 0 && needsLog(view, first[0]);
  controls.every.closest("label").hidden = metrics.length <= first.length;
  section.querySelector("b").textContent = metrics.length;

  const { every, ...drawing } = controls;
  every.addEventListener("change", () => show(every.checked ? metrics : first));
  const follow = () => { section.querySelector("output").textContent = Number(controls.smoothing.value).toFixed(2); };
  for (const control of Object.values(drawing)) {
    control.addEventListener("input", () => {
      control.chosen = true;
      follow();
      for (const listener of view.listeners) listener();
    });
  }

  // What a reload keeps: the controls that the user has changed, as the others follow the data, and zoomed ranges.
  view.keepers.curves = {
    save: () => ({
      every: every.checked,
      chosen: Object.entries(drawing).filter(([, control]) => control.chosen).map(([name, { value, checked }]) => [name, value, checked]),
      panels: view.panels.map(({ select, area }) => [select.chosen ? select.value : null, zoomOf(area) ?? area.zoom ?? null]),
    }),
    restore({ every: all, chosen, panels }) {
      if (all) {
        every.checked = true;
        show(metrics);
      }
      for (const [name, value, checked] of chosen) Object.assign(drawing[name], { value, checked, chosen: true });
      follow();
      panels.slice(0, view.panels.length).forEach(([metric, zoom], i) => {
        const { select, area } = view.panels[i];
        if (metric !== null && metrics.includes(metric)) Object.assign(select, { value: metric, chosen: true });
        area.zoom = zoom;
      });
    },
  };
}
