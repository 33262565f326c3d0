"""`model_train.tflite`: a classifier that can be trained further on a device."""
