// The best value of each run against a setting; with means and standard deviations where runs are averaged.
"use strict";

/** Indices of the runs that have a best value, best first. */
const rankedRuns = (view) => view.runs.map((_, i) => i).filter((i) => view.runs[i].best !== null);

/** The settings whose values are all numbers, at least two of them distinct. */
function numericSettings(view) {
  const ranked = rankedRuns(view);
  return view.group.settings.filter(({ key }) => {
    const values = ranked.map((i) => view.runs[i].settings[key]).filter((value) => value != null);
    return values.every(isNumber) && new Set(values).size > 1;
  });
}

/** Mean and standard deviation of each cluster whose runs agree in a setting, as a trace; null without averages. */
function meansTrace(view, key, isCategory) {
  if (!view.groupBy) return null;
  const points = clustersOf(view).map((cluster) => {
    const values = new Set(cluster.runs.map((run) => view.runs[run].settings[key] ?? null));
    return { ...cluster, ...meanAndStd(cluster.best), x: values.size === 1 ? [...values][0] : null };
  }).filter(({ x, mean }) => x !== null && mean !== undefined);
  return {
    x: points.map(({ x }) => isCategory ? escapeText(x) : x), y: points.map(({ mean }) => mean),
    type: "scatter", mode: "markers", marker: { symbol: "line-ew-open", size: 16, color: css("--ink"), line: { width: 2 } },
    error_y: { type: "data", array: points.map(({ std }) => std ?? 0), color: css("--ink"), thickness: 1.4, width: 5 },
    text: points.map(({ label, best }) => `<b>${escapeText(label)}</b><br>mean ± std: ${meanFigure(best)}`),
    hovertemplate: "%{text}<extra></extra>",
  };
}

function setUpScatter(view) {
  const { group, runs } = view;
  const section = view.find(".against");
  const area = section.querySelector(".plot");
  const select = section.querySelector(".scatter-x");
  const ranked = rankedRuns(view);
  const numeric = numericSettings(view);

  const draw = () => {
    const { key, name } = group.settings.find((setting) => setting.key === select.value);
    const shown = new Set(view.shown());
    const numbers = ranked.filter((i) => shown.has(i) && runs[i].settings[key] != null).reverse();
    const x = numbers.map((i) => runs[i].settings[key]);
    const kind = !x.every(isNumber) ? { type: "category" } : spansDecades(x) ? logarithmic(x) : { nticks: 8 };
    const isCategory = kind.type === "category";
    const trace = {
      x: isCategory ? x.map(escapeText) : x, y: numbers.map((i) => runs[i].best), type: "scatter", mode: "markers",
      text: numbers.map((i) => view.descriptions[i]),
      meta: [escapeText(group.metric)],  // in the template itself, a name with %{…} would be filled in
      marker: { size: 9, color: numbers.map((i) => view.ranked[i]), opacity: 0.9, line: { width: 1, color: css("--card") } },
      hovertemplate: "%{text}<br>%{meta[0]}: <b>%{y:.5~g}</b><extra></extra>",
    };
    showMessage(area, numbers.length ? "" : `None of the runs shown has ${name}.`);
    const means = meansTrace(view, key, isCategory);
    const options = { ...layout({ title: key, ...kind }, { title: `best ${group.metric}`, nticks: 7 }), height: 340, uirevision: key };
    plot(view, area, means ? [trace, means] : [trace], options, [numbers, null]);
  };

  if (!numeric.length || ranked.length < 3) return;
  const distinctValues = ({ key }) => new Set(ranked.map((i) => runs[i].settings[key])).size;
  const candidates = numeric.some(({ seed }) => !seed) ? numeric.filter(({ seed }) => !seed) : numeric;
  const first = candidates.reduce((most, setting) => distinctValues(setting) > distinctValues(most) ? setting : most);
  for (const { key } of group.settings) select.add(new Option(key, key, false, key === first.key));
  section.hidden = false;
  const refresh = drawWhenVisible(view, section, draw);
  select.addEventListener("change", () => {
    select.chosen = true;
    refresh();
  });
  view.highlighters.push((run) => {
    const points = [...area.querySelectorAll("path.point")];
    const index = area.runs?.[0].indexOf(run) ?? -1;
    points.forEach((point, i) => point.classList.toggle("lit", i === index));
    area.classList.toggle("dim", run !== null && index >= 0);
  });
  view.keepers.scatter = {
    save: () => ({ setting: select.chosen ? select.value : null, zoom: keepZoom(area).save() }),
    restore({ setting, zoom }) {
      if ([...select.options].some((option) => option.value === setting)) Object.assign(select, { value: setting, chosen: true });
      area.zoom = zoom;
    },
  };
}
