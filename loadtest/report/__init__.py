"""What a run found: a model, files for people and for programs, and the checks that read them again."""
