"""How servers read what is typed: words of a command line, tables of flags, and the parser that most of them share."""
