"""The lines of Python that the README shows."""

EXAMPLE = """
import keras_srt as srt
from keras_srt import keras                     # the Keras that this installation uses
load = keras.utils.image_dataset_from_directory
labeled = load("photos/labeled", image_size=(96, 96), batch_size=32)
unlabeled = load("photos/unlabeled", labels=None, image_size=(96, 96), batch_size=96)
model = srt.RobustModel(classifier, srt.LInf("8/255"), srt.SRT())
model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
model.fit(srt.data.pair(labeled, unlabeled), validation_data=validation, epochs=10,
          callbacks=[keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max")])
result = srt.evaluate(model, test, [srt.AutoAttack("8/255")])
print(result.robust_accuracy, result.confidence_interval)
srt.export(model, "saved_models/photos", class_names=labeled.class_names)
"""
