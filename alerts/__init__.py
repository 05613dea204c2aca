"""The alerts, and the script that derives files of this folder. Not part of the program."""
