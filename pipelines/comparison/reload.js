// A page that is being watched reads its file again, and looks as before: order, filter, ranges and scrolling are kept.
// They stay in the history entry, which a reload keeps, also of a file and without storage for web sites.
"use strict";

const QUIET_SECONDS = 1; // no reload while the user moves the pointer, types or scrolls

// ---------------------------------------------------------------------------------------------------------- scrolling

const scrollers = [...document.querySelectorAll(".scroll")];
const visibleSections = () => [...document.querySelectorAll("section")].filter((section) => !section.hidden);

page.keepers.scrolling = {
  save() {
    const top = (section) => section.getBoundingClientRect().top;
    const near = visibleSections().reduce((a, b) => Math.abs(top(b)) < Math.abs(top(a)) ? b : a);
    // The page relative to the section at the top of the window: a run more must not move what is read below the table.
    return { window: scrollY && [near.id, top(near)], inner: scrollers.map((each) => [each.scrollLeft, each.scrollTop]) };
  },
  restore({ window: position, inner }) {
    scrollers.forEach((each, i) => each.scrollTo(...(inner[i] ?? [0, 0])));
    const section = position && document.getElementById(position[0]);
    if (section) scrollBy(0, section.getBoundingClientRect().top - position[1]);
  },
};

page.keepers.focus = {
  save() {
    const { id, selectionStart, selectionEnd } = document.activeElement ?? {};
    return { id, selection: [selectionStart, selectionEnd] };
  },
  restore({ id, selection }) {
    const element = id && document.getElementById(id);
    if (!element) return;
    element.focus({ preventScroll: true });
    if (element.type === "search") element.setSelectionRange(...selection);
  },
};

// ---------------------------------------------------------------------------------------------------------- reloading

for (const [name, kept] of Object.entries(history.state ?? {})) page.keepers[name]?.restore(kept);

if (data.reload === null && history.state) { // final: from now on a page like any other
  history.replaceState(null, "");
  history.scrollRestoration = "auto";
}
if (data.reload !== null) {
  history.scrollRestoration = "manual";
  let lastInput = -Infinity;
  for (const type of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "scroll"]) {
    addEventListener(type, () => { lastInput = performance.now(); }, { capture: true, passive: true });
  }
  page.isBusy = () => document.hidden || enlarged.open || performance.now() - lastInput < 1000 * QUIET_SECONDS;
  page.reload = () => {
    if (page.isBusy()) {
      setTimeout(page.reload, 250);
      return;
    }
    const kept = Object.entries(page.keepers).map(([name, keeper]) => [name, keeper.save()]);
    history.replaceState(Object.fromEntries(kept), "");
    location.reload();
  };
  setTimeout(page.reload, 1000 * data.reload);
}

document.body.dataset.ready = Math.round(performance.now());
