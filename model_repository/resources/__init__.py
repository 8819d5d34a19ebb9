"""How much of a machine the programs that embed and answer may take."""
