// Numbers and text for axes, tooltips and tables.
"use strict";

const escapeText = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const isNumber = (value) => typeof value === "number";
const shortNumber = (value) => isNumber(value) ? String(Number(value.toPrecision(5))) : String(value);

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

/** Whether positive values span more than two decades, so that the axis should be logarithmic. */
function spansDecades(values) {
  const known = values.filter((value) => isNumber(value) && Number.isFinite(value));
  return known.length > 1 && Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) > 100;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
