"""The command line: `vqmae-hf VERB`, one verb per job, each a thin layer over a public function."""
