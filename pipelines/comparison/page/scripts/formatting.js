// Numbers and text for axes, tooltips and tables.
"use strict";

const escapeText = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const isNumber = (value) => typeof value === "number";
const shortNumber = (value) => String(isNumber(value) && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value);

/** A metric as in the table: four decimals, or four digits if it is tiny or huge. */
function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return value === 0 || (size >= 1e-3 && size < 1e5) ? value.toFixed(4) : value.toExponential(3);
}

/** Mean and sample standard deviation (with n - 1), which is null for a single value; null without values. */
function meanAndStd(values) {
  if (!values.length) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, std: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null };
}

function meanFigure(values) {
  const found = meanAndStd(values);
  if (!found) return "–";
  return found.std === null ? figure(found.mean) : `${figure(found.mean)} ± ${figure(found.std)}`;
}

/** The largest gap between neighboring values, as a share of their range. */
function largestGap(values) {
  const gaps = values.slice(1).map((value, i) => value - values[i]);
  return Math.max(...gaps) / (values.at(-1) - values[0]);
}

/** Whether positive values span two decades, or one and lie more evenly on a logarithmic axis. */
function spansDecades(values) {
  const known = [...new Set(values.filter((value) => isNumber(value) && Number.isFinite(value)))].sort((a, b) => a - b);
  if (known.length < 2 || known[0] <= 0) return false;
  const ratio = known.at(-1) / known[0];
  return ratio > 100 || (ratio >= 10 && known.length > 2 && largestGap(known.map(Math.log)) < largestGap(known));
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
