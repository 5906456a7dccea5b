// Parallel coordinates in plain SVG: Plotly's need WebGL, which not every browser has, and don't identify the run of a
// line.
"use strict";

const SVG = "http://www.w3.org/2000/svg"; // a namespace, never fetched

function shape(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function setUpParallel(view) {
  const { group, runs } = view;
  const section = view.find(".parallel");
  const area = section.querySelector(".plot");
  const ranked = rankedRuns(view);
  if (!group.metric || !numericSettings(view).length || ranked.length < 3) return;
  const axes = settingsAxes(view);
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
    view.brushed = brushes.every((brush) => brush === null) ? null : new Set(runs.map((_, i) => i).filter(passes));
    filterRows(view);
  };

  const draw = () => {
    const width = area.clientWidth;
    const [left, right] = [60, width - 76];
    const x = (i) => left + i * (right - left) / (axes.length - 1);
    svg?.remove();
    svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": "parallel coordinates of the settings" }, area);
    area.append(tip);
    lines = new Map();
    const shown = new Set(view.shown());
    for (const run of [...ranked].reverse()) {
      const path = axes.map((axis, i) => `${i ? "L" : "M"}${x(i).toFixed(1)},${axis.at(axis.values[run]).toFixed(1)}`).join("");
      const visible = shown.has(run);
      const line = shape("path", { d: path, class: visible ? "line" : "line out", stroke: view.ranked[run], "data-run": run }, svg);
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
      view.highlight(null);
    });
    svg.addEventListener("click", (event) => {
      const run = event.target.classList.contains("grip") ? null : nearest(event, x);
      if (run !== null) view.pin(run);
    });
    highlightLine(view.pinned);
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
    view.highlight(run);
    tip.hidden = run === null;
    if (run === null) return;
    const { id, best, settings } = runs[run];
    const values = group.settings.filter(({ key }) => settings[key] != null).slice(0, 12)
      .map(({ key, name }) => `${name} ${shortNumber(settings[key])}`);
    tip.textContent = [id, ...values, `best ${group.metric}: ${shortNumber(best)}`].join("\n");
    const box = area.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    tip.style.left = `${px + tip.offsetWidth + 24 > box.width ? px - tip.offsetWidth - 14 : px + 14}px`;
    tip.style.top = `${Math.max(0, Math.min(py + 12, box.height - tip.offsetHeight))}px`;
  };

  const highlightLine = (run) => {
    svg?.classList.toggle("dim", lines.has(run));
    lines.forEach((line, number) => line.classList.toggle("lit", number === run));
  };

  // A reload keeps selected ranges as values, since the scale follows the data; those of names as heights.
  view.keepers.parallel = {
    save: () => axes.flatMap(({ name, valueAt }, i) => brushes[i] ? [[name, brushes[i].map(valueAt ?? ((y) => y))]] : []),
    restore(ranges) {
      for (const [name, range] of ranges) {
        const i = axes.findIndex((axis) => axis.name === name);
        if (i >= 0) brushes[i] = axes[i].valueAt ? range.map(axes[i].at) : range;
      }
      applyBrushes();
    },
  };

  section.hidden = false;
  const refresh = drawWhenVisible(view, section, draw);
  view.highlighters.push(highlightLine);
  let size = 0;
  new ResizeObserver(() => {
    if (svg && area.clientWidth !== size) {
      size = area.clientWidth;
      refresh();
    }
  }).observe(area);
}
