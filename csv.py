raise SystemExit("a file of the user was executed")
