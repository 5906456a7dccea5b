// Colors of runs and of averages: a hue each if they are few, else from worst to best.
"use strict";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const HUES = {
  light: ["#2d5fb8", "#d9601a", "#1f8a5b", "#a6338f", "#8c6d12", "#0e8ea3", "#c0342b", "#5d6570"],
  dark: ["#86b4f5", "#ffa562", "#65d19c", "#ee8fd8", "#e0c04c", "#5ecbdc", "#ff8178", "#a8b1bc"],
};
const MAX_HUES = HUES.light.length;
const hues = () => HUES[dark.matches ? "dark" : "light"];

/** A color between that of the worst (0) and of the best (1). */
function blend(share) {
  const stops = ["--worst", "--poor", "--middle", "--good", "--best"].map(css);
  const position = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(position), stops.length - 2);
  const part = (color, i) => parseInt(color.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) =>
    Math.round(part(stops[low], i) + (part(stops[low + 1], i) - part(stops[low], i)) * (position - low)));
  return `rgb(${mixed.join(",")})`;
}

/** Colors by rank, the best first. */
const colorsByRank = (count) => count <= MAX_HUES ? hues().slice(0, count)
  : Array.from({ length: count }, (_, i) => blend(1 - i / (count - 1)));

/** Colors of the runs: `ranked`, by rank, for plots of settings; `colors`, distinct if few, for table and curves. */
function colorRuns(view) {
  const { runs } = view;
  const rankedCount = runs.filter((run) => run.best !== null).length;
  view.ranked = runs.map((run, i) => run.best === null ? css("--gray") : blend(1 - i / Math.max(1, rankedCount - 1)));
  view.colors = runs.length <= MAX_HUES ? hues().slice(0, runs.length) : view.ranked;
}

/** Colors the dots of the table as the curves: by run, or by average. */
function colorRows(view) {
  view.rowOf.forEach((row, run) => row.style.setProperty("--run", view.groupBy ? "" : view.colors[run]));
  for (const { runs, color } of view.groupBy ? clustersOf(view) : []) {
    for (const run of runs) view.rowOf.get(run).style.setProperty("--run", color);
  }
  view.find(".scale").hidden = view.groupBy !== null || view.runs.length <= MAX_HUES;
}
