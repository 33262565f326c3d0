"""A folder with labeled and unlabeled images."""

import pytest
from own_images import make_folder


@pytest.fixture
def root(tmp_path):
    make_folder(tmp_path)
    return tmp_path
