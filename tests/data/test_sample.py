from pathlib import Path

from pixelwise.data.sample import Sample


def test_messages_name_the_file_and_where_in_it() -> None:
    sample = Sample(name="a", image_path=Path("a.tar"), mask_path=Path("b.png"), split=None, image_entry="1.jpg")
    assert (sample.image_location, sample.mask_location) == ("a.tar: 1.jpg", "b.png")
