"""Parts of a run that several processes or machines judge: the plan, who commits a part, and the result."""
