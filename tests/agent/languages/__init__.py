"""The recipes of docs/how-to for other languages, through rotations by both clouds."""
