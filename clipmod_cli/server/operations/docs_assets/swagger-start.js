"use strict";

SwaggerUIBundle({
  dom_id: "#swagger",
  url: "/openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  // the badge of an outside validator, which is not asked
  validatorUrl: null,
});
