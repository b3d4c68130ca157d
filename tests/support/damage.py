"""Damage to a file that only a digest can tell."""


def change_digit(file):
    """The last digit of the file that is not a 9 becomes the next one."""
    data = bytearray(file.read_bytes())
    at = max(i for i, byte in enumerate(data) if byte in b"012345678")
    data[at] += 1
    file.write_bytes(data)
