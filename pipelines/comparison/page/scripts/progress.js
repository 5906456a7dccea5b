// The best value so far over the trials of a sweep.
"use strict";

function setUpProgress(view) {
  const { group, runs } = view;
  const section = view.find(".progress");
  const area = section.querySelector(".plot");
  const better = (a, b) => group.maximize ? a > b : a < b;
  const sweeps = Object.entries(group.sweeps);

  const draw = () => {
    const [traces, numbers] = [[], []];
    sweeps.forEach(([sweep, name], i) => {
      const trials = runs.map((run, number) => ({ ...run, number }))
        .filter((run) => run.sweep === sweep && run.best !== null).sort((a, b) => a.trial - b.trial);
      let best = null;
      const soFar = trials.map((trial) => (best = best === null || better(trial.best, best) ? trial.best : best));
      const several = sweeps.length > 1;
      const color = several ? hues()[i % MAX_HUES] : css("--accent");
      traces.push({
        x: trials.map((trial) => trial.trial), y: soFar, type: "scatter", mode: "lines", name: escapeText(name),
        line: { shape: "hv", color: color, width: 2.2 }, hoverinfo: "skip",
      }, {
        x: trials.map((trial) => trial.trial), y: trials.map((trial) => trial.best), type: "scatter", mode: "markers",
        marker: { size: 7, color: several ? color : trials.map((trial) => view.ranked[trial.number]), line: { width: 1, color: css("--card") } },
        text: trials.map((trial) => view.descriptions[trial.number]), showlegend: false,
        hovertemplate: "%{text}<br>trial %{x}: <b>%{y:.5~g}</b><extra></extra>",
      });
      numbers.push(null, trials.map((trial) => trial.number));
    });
    const x = { title: "trial", ...integerAxis(traces.flatMap((trace) => trace.x)) };
    const options = { ...layout(x, { title: `best ${group.metric}`, nticks: 7 }), height: 340 };
    options.showlegend = sweeps.length > 1;
    options.legend = { orientation: "h", y: 1.02, yanchor: "bottom" };
    plot(view, area, traces, options, numbers);
  };

  const trials = runs.filter((run) => run.trial !== null);
  if (!group.metric || trials.filter((run) => run.best !== null).length < 2) return;
  const without = trials.filter((run) => run.best === null).length;
  section.querySelector(".note").textContent = without ? `${without} of ${trials.length} trials have no ${group.metric}` : "";
  section.hidden = false;
  drawWhenVisible(view, section, draw);
  view.keepers.progress = keepZoom(area);
}

/** Keeps the zoomed ranges of a plot over a reload. */
const keepZoom = (area) => ({
  save: () => zoomOf(area) ?? area.zoom ?? null,
  restore(zoom) { area.zoom = zoom; },
});
