def draw(table, picture):
    pass
