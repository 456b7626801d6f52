"""Scripted players, and the recorder that writes their games as ttyrecs in NLD-AA's layout."""
