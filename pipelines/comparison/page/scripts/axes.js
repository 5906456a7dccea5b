// Axes of the parallel coordinates: positions in pixels and ticks.
"use strict";

const HEIGHT = 400;
const TOP = 46;
const BOTTOM = HEIGHT - 40; // of the scale; runs without the setting are drawn below it
const MOST_AXES = 10;

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

/** An axis for each setting in which ranked runs differ, seeds last, and one for the metric. */
function settingsAxes(view) {
  const ranked = rankedRuns(view);
  const varying = view.group.settings.filter(({ key }) => new Set(ranked.map((i) => view.runs[i].settings[key])).size > 1);
  varying.sort((one, other) => one.seed - other.seed);
  const axes = varying.slice(0, MOST_AXES)
    .map(({ key, name }) => makeAxis(name, view.runs.map((run) => run.settings[key] ?? null)));
  return [...axes, makeAxis(`best ${view.group.metric}`, view.runs.map((run) => run.best), false)];
}
