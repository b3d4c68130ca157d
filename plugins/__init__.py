"""Built-in plugins, registered the way an outside package would: one file each."""
