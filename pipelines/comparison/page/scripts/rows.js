// Metrics with a single value for each run, as of nearest neighbors: a row with a point for each instead of curves.
"use strict";

const MAX_ROWS = 20;

/** Whether no run has more than one value of the metric. */
const areSingle = (traces, runs) => runs.some((run) => run !== null) && traces.every(({ x }, i) => runs[i] === null || x.length === 1);

/** Turns traces of one point each into rows: the value along x, the run along y, the best on top. */
function asRows(view, traces, runs) {
  const clusters = new Map((view.groupBy ? clustersOf(view) : []).map((cluster) => [cluster.runs[0], cluster]));
  const kept = runs.map((run, i) => [run, traces[i]]).filter(([run]) => run !== null).slice(-MAX_ROWS);
  const rows = kept.map(([run, { x, y, std, mode, ...trace }]) => ({
    ...trace, x: y, y: [escapeText(clusters.get(run)?.label ?? view.runs[run].id)], mode: "markers+text",
    text: y.map(figure), textposition: "middle right", textfont: { color: css("--soft"), size: 12 }, cliponaxis: false,
    error_x: std?.[0] ? { type: "data", array: std, color: trace.marker.color, thickness: 1.4, width: 4 } : undefined,
    marker: { ...trace.marker, size: 9 }, hovertemplate: "%{meta[0]}<br><b>%{x:.5~g}</b><extra></extra>",
  }));
  return [rows, kept.map(([run]) => run)];
}

/** The layout of rows: room for the values beside the points. */
function rowsLayout(rows) {
  const values = rows.flatMap(({ x }) => x);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low || Math.abs(high) || 1) * 0.1;
  const height = Math.min(300, 70 + 34 * rows.length);
  return { height, ...layout({ nticks: 5, range: [low - margin, high + 3 * margin] }, { type: "category", showgrid: rows.length > 1 }) };
}
