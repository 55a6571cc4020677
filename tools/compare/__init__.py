"""``mlic-run compare``: the models beside other codecs, on the user's own photos."""
