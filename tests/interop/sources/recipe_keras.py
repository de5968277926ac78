"""Export the two halves of an autoencoder from Keras 3, pictures as height, width, channels."""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers


def export(model: keras.Model, example: np.ndarray, file: Path) -> None:
    """Write *model* as one ONNX file; the first axis of its input is free."""
    model(example)  # only what was called is exported, and prediction does not always count
    model.export(file, format="onnx", verbose=False)


def networks() -> tuple[keras.Model, keras.Model]:
    """Make a small encoder and its decoder, with random weights."""
    encoder = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6 * 6 * 6, activation="relu"),
            layers.Reshape((6, 6, 6)),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    return encoder, decoder


def main(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    encoder, decoder = networks()
    export(encoder, np.zeros((1, 12, 12, 1), np.float32), folder / "encoder.onnx")
    export(decoder, np.zeros((1, 5), np.float32), folder / "decoder.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
