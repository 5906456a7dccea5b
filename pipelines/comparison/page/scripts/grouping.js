// Groups the shown runs by their values of some settings, such as all but the seed.
"use strict";

/** The runs shown, in a cluster for each combination of values of `view.groupBy`; the best mean first. */
function clustersOf(view) {
  const clusters = new Map();
  for (const run of view.shown()) {
    const values = view.groupBy.map((key) => view.runs[run].settings[key] ?? null);
    const name = JSON.stringify(values);
    if (!clusters.has(name)) clusters.set(name, { values, runs: [] });
    clusters.get(name).runs.push(run);
  }
  const sign = view.group.maximize ? -1 : 1;
  const found = [...clusters.values()].map((cluster) => {
    cluster.best = cluster.runs.map((run) => view.runs[run].best).filter((best) => best !== null);
    const mean = meanAndStd(cluster.best)?.mean;
    return { ...cluster, rank: mean === undefined ? Infinity : sign * mean };
  });
  found.sort((a, b) => a.rank - b.rank);
  const colors = colorsByRank(found.length);
  return found.map((cluster, i) => ({ ...cluster, color: colors[i], label: labelOf(view, cluster) }));
}

function labelOf(view, { values }) {
  const names = new Map(view.group.settings.map(({ key, name }) => [key, name]));
  return view.groupBy.map((key, i) => `${names.get(key)} ${values[i] === null ? "–" : shortNumber(values[i])}`).join(" · ") || "all runs";
}

function setUpGrouping(view) {
  const { group } = view;
  const select = view.find(".group-by");
  const others = group.settings.filter(({ seed }) => !seed);
  const add = (keys, text) => select.add(new Option(text, JSON.stringify(keys)));
  add(null, "– (each run)");
  if (others.length < group.settings.length) add(others.map(({ key }) => key), "settings but the seed");
  for (const { key, name } of group.settings) add([key], name);
  const first = JSON.stringify(group.groupBy);
  if (![...select.options].some((option) => option.value === first)) {
    const names = new Map(group.settings.map(({ key, name }) => [key, name]));
    add(group.groupBy, group.groupBy.map((key) => names.get(key)).join(", ") || "settings but the seed");
  }
  view.find(".grouping").hidden = view.runs.length < 3 || select.options.length < 2;

  const choose = (value) => {
    select.value = value;
    view.groupBy = JSON.parse(select.value || "null");
    view.changed();
  };
  select.addEventListener("change", () => choose(select.value));
  view.keepers.grouping = {
    save: () => select.value,
    restore(value) {
      if ([...select.options].some((option) => option.value === value)) choose(value);
    },
  };
  return () => choose(first);
}
