/* Ranks the sections of all pages by the words of the query and lists the best above Sphinx's results.

   A word counts by how rare it is (idf), five times in a heading, three times in a page's title; words of three letters or more
   also count where a longer word begins with their stem. */
(() => {
  const query = new URLSearchParams(window.location.search).get("q") ?? "";
  const COMMON = new Set(
    `a about an and are as at be but by can do does for from has have how i if in into is it its me my need needs not of on or
    should so that the their them there these this to was what when where which while who why will with you your derive explain
    show find compute computed set used use`.split(/\s+/),
  );
  const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  const stem = (word) => (word.length > 4 ? word.replace(/(ations?|ing|ies|ed|es|s|ize|ized)$/, "") : word);
  const wanted = [...new Set(wordsOf(query).filter((word) => !COMMON.has(word)).map(stem))];
  if (!wanted.length) return;

  const counts = (text) => {
    const words = wordsOf(text);
    return wanted.map((term) => words.filter((word) => word === term || (term.length > 2 && word.startsWith(term))).length);
  };
  const found = SECTIONS.map(([address, page, heading, text, code]) => {
    const inHeading = heading === page ? wanted.map(() => 0) : counts(heading);
    return { address, page, heading, text, inPage: counts(page), inHeading, inText: counts(`${text} ${code}`) };
  });
  const rarity = wanted.map((_, i) => {
    const having = found.filter((section) => section.inPage[i] + section.inHeading[i] + section.inText[i] > 0).length;
    return Math.log((found.length + 1) / (having + 1));
  });
  for (const section of found) {
    const parts = wanted.map(
      (_, i) =>
        rarity[i] * (5 * Math.min(section.inHeading[i], 1) + 3 * Math.min(section.inPage[i], 1) + Math.min(section.inText[i], 3)),
    );
    const covered = parts.filter((part) => part > 0).length / wanted.length;
    section.score = parts.reduce((sum, part) => sum + part, 0) * covered ** 2;
  }

  const excerpt = ({ text }) => {
    const sentences = text.split(/(?<=[.:?!])\s+/);
    const hits = sentences.map((sentence) => counts(sentence).filter(Boolean).length);
    const best = hits.indexOf(Math.max(...hits));
    const chosen = sentences.slice(best, best + 2).join(" ");
    return chosen.length > 240 ? `${chosen.slice(0, 240)} …` : chosen;
  };
  const list = document.createElement("ol");
  list.className = "section-results";
  for (const section of found.filter(({ score }) => score > 0).sort((a, b) => b.score - a.score).slice(0, 8)) {
    const item = list.appendChild(document.createElement("li"));
    const link = item.appendChild(document.createElement("a"));
    link.href = section.address;
    link.textContent = section.heading === section.page ? section.page : `${section.page}: ${section.heading}`;
    item.appendChild(document.createElement("p")).textContent = excerpt(section);
  }
  const place = document.getElementById("search-results");
  if (!list.children.length || !place) return;
  const title = document.createElement("h1");
  title.textContent = "Best sections";
  place.before(title, list);
})();
