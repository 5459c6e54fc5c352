"""Write scanned digits as pictures for job-resnet: `python -m tangent_jobs.pictures FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

pictures, labels = load_digits(return_X_y=True)
for number, (picture, label) in enumerate(zip(pictures, labels)):
    split = ("train", "train", "train", "validation", "test")[number % 5]
    folder = Path(sys.argv[1]) / split / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    grey = (picture.reshape(8, 8) * 255 / 16).astype(np.uint8)
    Image.fromarray(grey).resize((32, 32)).save(folder / f"{number}.png")
