// Two runs compared: their figures, and every setting in which they differ, whoever set it.
"use strict";

function setUpDifferences(views) {
  const section = document.getElementById("differences");
  const table = section.querySelector("table");
  const [one, other] = section.querySelectorAll("select");
  const all = views.flatMap((view) => view.runs.map((run) => ({ view, run })));
  if (all.length < 2) return;
  section.hidden = false;

  for (const select of [one, other]) {
    let number = 0;
    for (const { group, runs } of views) {
      const options = runs.map((run) => new Option(run.id, number++));
      if (views.length === 1) select.append(...options);
      else select.append(Object.assign(element("optgroup", {}, ...options), { label: group.title }));
    }
  }

  const text = (value) => value === undefined || value === null ? "–" : String(value);
  const row = (name, a, b, kind) => element("tr", { className: kind },
    element("th", { scope: "row", textContent: name }), element("td", { textContent: a }), element("td", { textContent: b }));

  const draw = () => {
    const pair = [all[one.value], all[other.value]];
    const [a, b] = pair.map(({ run }) => ({ ...run.others, ...run.settings }));
    const metrics = pair.map(({ view }) => view.group.metric);
    const figures = metrics[0] === metrics[1] ? [row(`best ${metrics[0] ?? ""}`, ...pair.map(({ run }) => figure(run.best)), "figures")]
      : [row("best", ...pair.map(({ run }, i) => `${figure(run.best)}  (${metrics[i] ?? "no metric"})`), "figures")];
    const tests = [...new Set(pair.flatMap(({ view }) => view.group.tests))];
    const last = ({ run }, metric) => figure(run.curves[metric]?.value.at(-1));
    figures.push(...tests.map((metric) => row(metric, ...pair.map((each) => last(each, metric)), "figures")));
    figures.push(row("took", ...pair.map(({ run }) => run.took), "figures"), row("state", ...pair.map(({ run }) => run.state), "figures"));
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => text(a[key]) !== text(b[key])).sort();
    const ids = pair.map(({ view, run }) => views.length > 1 ? `${run.id} (${view.group.title})` : run.id);
    const heads = ["", ...ids].map((id) => element("th", { scope: "col", textContent: id }));
    table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)),
      element("tbody", {}, ...figures, ...keys.map((key) => row(key, text(a[key]), text(b[key]), "setting"))));
    section.querySelector(".note").textContent = keys.length === 0 ? "They have the same settings."
      : keys.length === 1 ? "One setting differs." : `${keys.length} settings differ.`;
  };

  let stale = true;
  const choose = (a, b) => {
    [one.value, other.value] = [a, b];
    draw();
  };
  new IntersectionObserver((entries) => { // what nobody looks at costs nothing
    if (stale && entries.at(-1).isIntersecting) draw();
    stale &&= !entries.at(-1).isIntersecting;
  }, { rootMargin: "200px" }).observe(section);
  const first = all.findIndex(({ view }) => view.runs.length > 1); // the two best of a group, if one has so many
  [one.value, other.value] = first < 0 ? [0, 1] : [first, first + 1];
  for (const select of [one, other]) select.addEventListener("change", draw);
  for (const view of views) {
    view.pinners.push((run) => {
      const number = all.findIndex((each) => each.view === view && each.run === view.runs[run]);
      if (number >= 0 && number !== Number(other.value)) choose(number, other.value);
    });
  }
  return {
    save: () => [one, other].map((select) => all[select.value]).map(({ view, run }) => [view.group.title, run.id]),
    restore(names) {
      const numbers = names.map(([title, id]) => all.findIndex(({ view, run }) => view.group.title === title && run.id === id));
      if (numbers.every((number) => number >= 0)) choose(...numbers);
    },
  };
}
