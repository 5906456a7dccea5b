// A page that is being watched reads its file again, and looks as before: order, filter, ranges and scrolling are kept.
// They stay in the history entry, which a reload keeps, also of a file and without storage for web sites.
"use strict";

const QUIET_SECONDS = 1; // no reload while the user moves the pointer, types or scrolls

// ---------------------------------------------------------------------------------------------------------- scrolling

const focusable = () => [...document.querySelectorAll(".bar input, .bar select")];
const sections = [...document.querySelectorAll("section")];
const visibleSections = () => sections.filter((section) => !section.hidden);
const scrollers = [...document.querySelectorAll(".scroll")];

/** A name that a section, or a place in it, keeps when groups and sections are added. */
function nameOf(place) {
  const section = place.closest("section");
  const article = section.closest(".group");
  const group = article ? views[articles.indexOf(article)].group.title : "";
  return JSON.stringify([group, section.className, place === section ? "" : place.className]);
}

const keepers = { differences }; // of the page; those of each group are in its view

keepers.scrolling = {
  save() {
    const top = (section) => section.getBoundingClientRect().top;
    const near = visibleSections().reduce((a, b) => Math.abs(top(b)) < Math.abs(top(a)) ? b : a);
    // The page relative to the section at the top of the window: a run more must not move what is read below the table.
    return { window: scrollY && [nameOf(near), top(near)], inner: Object.fromEntries(scrollers.map((each) => [nameOf(each), [each.scrollLeft, each.scrollTop]])) };
  },
  restore({ window: position, inner }) {
    for (const each of scrollers) each.scrollTo(...(inner[nameOf(each)] ?? [0, 0]));
    const section = position && sections.find((each) => nameOf(each) === position[0]);
    if (section) scrollBy(0, section.getBoundingClientRect().top - position[1]);
  },
};

keepers.focus = {
  save() {
    const { selectionStart, selectionEnd } = document.activeElement ?? {};
    const index = focusable().indexOf(document.activeElement);
    return index < 0 ? null : { place: [nameOf(focusable()[index]), focusable()[index].type], selection: [selectionStart, selectionEnd] };
  },
  restore(kept) {
    const control = kept && focusable().find((each) => nameOf(each) === kept.place[0] && each.type === kept.place[1]);
    control?.focus({ preventScroll: true });
    if (control?.type === "search") control.setSelectionRange(...kept.selection);
  },
};

// ---------------------------------------------------------------------------------------------------------- reloading

const page = {};

const save = (each) => Object.fromEntries(Object.entries(each).filter(([, keeper]) => keeper).map(([name, keeper]) => [name, keeper.save()]));
function restore(each, kept) {
  for (const [name, keeper] of Object.entries(each)) if (keeper && name in kept) keeper.restore(kept[name]);
}

if (history.state) {
  for (const view of views) restore(view.keepers, history.state.groups[view.group.title] ?? {});
  restore(keepers, history.state.page);
}

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
    const groups = Object.fromEntries(views.map((view) => [view.group.title, save(view.keepers)]));
    history.replaceState({ page: save(keepers), groups }, "");
    location.reload();
  };
  setTimeout(page.reload, 1000 * data.reload);
}

document.body.dataset.ready = Math.round(performance.now());
