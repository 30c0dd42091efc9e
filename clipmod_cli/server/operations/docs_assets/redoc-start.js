"use strict";

const theme = { typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } } };

Redoc.init("/openapi.json", { theme, disableSearch: false }, document.getElementById("redoc"));
