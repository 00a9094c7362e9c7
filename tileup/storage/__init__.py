"""Places that are named by URLs: object stores, and pictures on web servers."""
