"""Lightning callbacks: one file and one key in ``conf/callbacks`` each."""
