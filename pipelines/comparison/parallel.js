// Parallel coordinates in plain SVG: Plotly's need WebGL, which not every browser has, and don't identify the run of a
// line.
"use strict";

const parallel = document.getElementById("parallel");
const parallelArea = parallel.querySelector(".plot");
const SVG = "http://www.w3.org/2000/svg"; // a namespace, never fetched
const HEIGHT = 400;
const TOP = 46;
const BOTTOM = HEIGHT - 40; // of the scale; runs without the setting are drawn below it
const MOST_AXES = 10;

function shape(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** About five round numbers from low to high. */
function roundTicks(low, high) {
  const raw = (high - low) / 5 || Math.abs(low) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) * power;
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) ticks.push(tick);
  return ticks;
}

function powersOfTen(low, high) {
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const step = Math.max(1, Math.ceil((to - from) / 6));
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => 10 ** (from + i * step));
}

function tickText(value) {
  if (!isNumber(value)) return value.length > 16 ? `${value.slice(0, 15)}…` : value;
  const plain = Number(value.toPrecision(4));
  if (plain !== 0 && (Math.abs(plain) < 0.99e-4 || Math.abs(plain) >= 1e6)) return plain.toExponential().replace("e+", "e");
  return plain.toLocaleString("en", { maximumSignificantDigits: 4 });
}

/** An axis: position of a value in pixels from the top, and ticks; of a setting with few values, at each of them. */
function makeAxis(name, values, isSetting = true) {
  const known = values.filter((value) => value != null);
  const distinct = [...new Set(known)];
  if (known.every(isNumber)) {
    const [low, high] = [Math.min(...distinct), Math.max(...distinct)];
    const log = spansDecades(distinct);
    const scale = log ? Math.log10 : (value) => value;
    const span = scale(high) - scale(low) || 1;
    const at = (value) => BOTTOM - (scale(value) - scale(low)) / span * (BOTTOM - TOP);
    const valueAt = (y) => (log ? (power) => 10 ** power : (value) => value)(scale(low) + (BOTTOM - y) / (BOTTOM - TOP) * span);
    let ticks = log ? powersOfTen(low, high) : roundTicks(low, high);
    if (isSetting && distinct.length <= 6) ticks = distinct.sort((a, b) => a - b);
    else if (log && ticks.length < 2) ticks = [low, high];
    ticks = ticks.filter((tick, i) => i === 0 || at(ticks[i - 1]) - at(tick) > 13 || distinct.length > 6);
    return { name: log ? `${name} (log)` : name, values, ticks, at: (value) => value == null ? BOTTOM + 24 : at(value), valueAt };
  }
  const names = distinct.map(String).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const spacing = (BOTTOM - TOP) / names.length;
  const at = (value) => value == null ? BOTTOM + 24 : TOP + (names.indexOf(String(value)) + 0.5) * spacing;
  return { name, values: values.map((value) => value == null ? null : String(value)), at, ticks: spacing > 13 ? names : [], valueAt: null };
}

function settingsAxes() {
  const varying = data.settings.filter(({ key }) => new Set(ranked.map((i) => data.runs[i].settings[key])).size > 1);
  const axes = varying.slice(0, MOST_AXES)
    .map(({ key, name }) => makeAxis(name, data.runs.map((run) => run.settings[key] ?? null)));
  return [...axes, makeAxis(`best ${data.metric}`, data.runs.map((run) => run.best), false)];
}

if (data.metric && numeric.length && ranked.length >= 3) {
  const axes = settingsAxes();
  const brushes = axes.map(() => null);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  let lines = new Map();
  let svg = null;

  const passes = (run) => axes.every((axis, i) => {
    const y = axis.at(axis.values[run]);
    return brushes[i] === null || (y >= brushes[i][0] && y <= brushes[i][1]);
  });

  const applyBrushes = () => {
    page.brushed = brushes.every((brush) => brush === null) ? null : new Set(data.runs.map((_, i) => i).filter(passes));
    filterRows();
  };

  const draw = () => {
    const width = parallelArea.clientWidth;
    const [left, right] = [60, width - 76];
    const x = (i) => left + i * (right - left) / (axes.length - 1);
    svg?.remove();
    svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": "parallel coordinates of the settings" }, parallelArea);
    parallelArea.append(tip);
    lines = new Map();
    const shown = new Set(page.shown());
    for (const run of [...ranked].reverse()) {
      const path = axes.map((axis, i) => `${i ? "L" : "M"}${x(i).toFixed(1)},${axis.at(axis.values[run]).toFixed(1)}`).join("");
      const visible = shown.has(run);
      const line = shape("path", { d: path, class: visible ? "line" : "line out", stroke: page.ranked[run], "data-run": run }, svg);
      if (visible) lines.set(run, line);
      else svg.prepend(line);
    }
    axes.forEach((axis, i) => {
      const last = i === axes.length - 1;
      shape("line", { x1: x(i), x2: x(i), y1: TOP, y2: BOTTOM, class: "axis" }, svg);
      const anchor = i === 0 ? "start" : last ? "end" : "middle";
      const edge = i === 0 ? 4 : last ? width - 4 : x(i);
      shape("text", { x: edge, y: i % 2 && axes.length > 7 ? 12 : 26, class: "name", "text-anchor": anchor }, svg, axis.name);
      for (const tick of axis.ticks) {
        shape("text", { x: x(i) + (i === 0 ? -7 : 7), y: axis.at(tick) + 4, "text-anchor": i === 0 ? "end" : "start" }, svg, tickText(tick));
      }
      if (ranked.some((run) => axis.values[run] == null)) {
        shape("text", { x: x(i) + (i === 0 ? -7 : 7), y: BOTTOM + 28, "text-anchor": i === 0 ? "end" : "start" }, svg, "not set");
      }
      const brush = shape("rect", { x: x(i) - 7, width: 14, class: "brush", rx: 3, visibility: "hidden" }, svg);
      const drawBrush = () => {
        brush.setAttribute("visibility", brushes[i] ? "visible" : "hidden");
        if (brushes[i]) {
          brush.setAttribute("y", brushes[i][0]);
          brush.setAttribute("height", brushes[i][1] - brushes[i][0]);
        }
      };
      drawBrush();
      const grip = shape("rect", { x: x(i) - 14, y: TOP - 8, width: 28, height: HEIGHT - TOP, class: "grip" }, svg);
      const height = (event) => event.clientY - svg.getBoundingClientRect().top;
      grip.addEventListener("pointerdown", (event) => {
        const from = height(event);
        grip.setPointerCapture(event.pointerId);
        grip.onpointermove = (move) => {
          brushes[i] = [Math.min(from, height(move)), Math.max(from, height(move))];
          drawBrush();
        };
        grip.onpointerup = (up) => {
          grip.onpointermove = grip.onpointerup = null;
          if (Math.abs(height(up) - from) < 4) brushes[i] = null;
          applyBrushes();
        };
      });
    });
    svg.addEventListener("pointermove", (event) => hover(event, x));
    svg.addEventListener("pointerleave", () => {
      tip.hidden = true;
      page.highlight(null);
    });
    svg.addEventListener("click", (event) => {
      const run = event.target.classList.contains("grip") ? null : nearest(event, x);
      if (run !== null) page.pin(run);
    });
    highlightLine(page.pinned);
  };

  /** The run whose line is nearest to the pointer, at most ten pixels away. */
  const nearest = (event, x) => {
    const box = svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const i = Math.max(0, axes.findLastIndex((_, axis) => x(axis) <= px && axis < axes.length - 1));
    const share = (px - x(i)) / (x(i + 1) - x(i));
    if (share < 0 || share > 1) return null;
    let [best, distance] = [null, 10];
    for (const run of lines.keys()) {
      const [from, to] = [axes[i].at(axes[i].values[run]), axes[i + 1].at(axes[i + 1].values[run])];
      const gap = Math.abs(from + (to - from) * share - py) / Math.hypot(1, (to - from) / (x(i + 1) - x(i)));
      if (gap < distance) [best, distance] = [run, gap];
    }
    return best;
  };

  const hover = (event, x) => {
    const run = event.buttons ? null : nearest(event, x);
    page.highlight(run);
    tip.hidden = run === null;
    if (run === null) return;
    const { id, best, settings } = data.runs[run];
    const values = data.settings.filter(({ key }) => settings[key] != null).slice(0, 12)
      .map(({ key, name }) => `${name} ${shortNumber(settings[key])}`);
    tip.textContent = [id, ...values, `best ${data.metric}: ${shortNumber(best)}`].join("\n");
    const box = parallelArea.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    tip.style.left = `${px + tip.offsetWidth + 24 > box.width ? px - tip.offsetWidth - 14 : px + 14}px`;
    tip.style.top = `${Math.max(0, Math.min(py + 12, box.height - tip.offsetHeight))}px`;
  };

  const highlightLine = (run) => {
    svg?.classList.toggle("dim", lines.has(run));
    lines.forEach((line, number) => line.classList.toggle("lit", number === run));
  };

  // A reload keeps selected ranges as values, since the scale follows the data; those of names as heights.
  page.keepers.parallel = {
    save: () => axes.flatMap(({ name, valueAt }, i) => brushes[i] ? [[name, brushes[i].map(valueAt ?? ((y) => y))]] : []),
    restore(ranges) {
      for (const [name, range] of ranges) {
        const i = axes.findIndex((axis) => axis.name === name);
        if (i >= 0) brushes[i] = axes[i].valueAt ? range.map(axes[i].at) : range;
      }
      applyBrushes();
    },
  };

  const refresh = drawWhenVisible(parallel, draw);
  page.highlighters.push(highlightLine);
  let size = 0;
  new ResizeObserver(() => {
    if (svg && parallelArea.clientWidth !== size) {
      size = parallelArea.clientWidth;
      refresh();
    }
  }).observe(parallelArea);
}
