// Curves as they are shown: over steps or epochs, smoothed, and as mean ± standard deviation of several runs.
"use strict";

/** A run's curve over steps, or over epochs with the last value of each; without gaps. Null if it has no values. */
function curveOf(run, metric, over) {
  const curve = run.curves[metric];
  if (!curve) return null;
  const byX = new Map();
  const xs = over === "step" ? curve.step : curve.epoch;
  xs.forEach((x, i) => { if (x !== null && curve.value[i] !== null) byX.set(x, curve.value[i]); });
  return byX.size ? { x: [...byX.keys()], y: [...byX.values()] } : null;
}

/** Exponential moving average with weight w in [0, 1) for the past, divided by 1 - wⁿ as the first ones lack a past. */
function smooth(values, weight) {
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

/** A curve's value at x, linear between its points; null outside of them. */
function valueAt({ x: xs, y: ys }, x) {
  if (x < xs[0] || x > xs.at(-1)) return null;
  let [low, high] = [0, xs.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle;
    else high = middle;
  }
  if (high === low || xs[high] === xs[low]) return ys[low];
  return ys[low] + (ys[high] - ys[low]) * (x - xs[low]) / (xs[high] - xs[low]);
}

const MAX_MEAN_POINTS = 300;

/** Mean and standard deviation of curves at each x that one of them has, over the runs that reach so far. */
function meanCurve(curves) {
  let xs = [...new Set(curves.flatMap(({ x }) => x))].sort((a, b) => a - b);
  const every = Math.ceil(xs.length / MAX_MEAN_POINTS);
  xs = xs.filter((_, i) => i % every === 0 || i === xs.length - 1);
  const found = xs.map((x) => meanAndStd(curves.map((curve) => valueAt(curve, x)).filter((value) => value !== null)));
  return { x: xs, y: found.map(({ mean }) => mean), std: found.map(({ std }) => std ?? 0) };
}
