"""One configuration model per job."""
