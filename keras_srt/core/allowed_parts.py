"""What a model file may consist of; `model_safety` refuses everything else.

The lists hold what the exports of this package and plain Keras image classifiers consist of, and
nothing that reads or writes files, runs Python code, uses the network, or prints.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


KERAS_PACKAGE = "keras"

KERAS_MODELS = frozenset({"Functional", "Model", "Sequential"})
# The modules that models are looked up in; the path of a class that Keras doesn't export is that
# of its source file.
KERAS_MODEL_MODULES = _names(
    """
    models src.engine.functional src.engine.sequential src.engine.training src.models.functional
    src.models.model src.models.sequential
    """
)
KERAS_LAYERS = _names(
    """
    Activation ActivityRegularization AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add
    AdditiveAttention AlphaDropout Attention Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization CategoryEncoding CenterCrop Concatenate Conv1D
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D Cropping3D
    Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization Identity InputLayer LayerNormalization LeakyReLU LocallyConnected1D
    LocallyConnected2D MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention
    Multiply Normalization PReLU Permute RMSNormalization RandomBrightness RandomColorJitter
    RandomContrast RandomCrop RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
    RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU
    RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization Subtract ThresholdedReLU TimeDistributed
    UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
    ZeroPadding3D
    """
)
# Classes by module, after the package's name; layers and models are above.
KERAS_CLASSES = {
    "constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "RadialConstraint", "UnitNorm"}),
    "initializers": _names(
        """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform
        Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
        """
    ),
    "layers": KERAS_LAYERS,
    "mixed_precision": frozenset({"Policy"}),
    "regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
    "src.applications.convnext": frozenset({"LayerScale", "StochasticDepth"}),
    # The layers that Keras 3 makes of arithmetic on tensors.
    "src.ops.core": frozenset({"Cast"}),
    "src.ops.math": frozenset({"Rsqrt"}),
    "src.ops.nn": _names(
        """
        Elu Gelu HardSigmoid HardSilu LeakyRelu LogSoftmax Normalize Relu Relu6 Selu Sigmoid Silu
        Softmax Softplus Softsign
        """
    ),
    "src.ops.numpy": _names(
        """
        Absolute Add Clip Concatenate Divide Exp ExpandDims GetItem Log Maximum Max Mean Minimum Min
        Multiply Negative Pad Power Reshape Sqrt Square Squeeze Stack Subtract Sum Tanh Transpose
        TrueDivide Var
        """
    ),
    "": KERAS_MODELS | {"DTypePolicy"},
    **dict.fromkeys(KERAS_MODEL_MODULES, KERAS_MODELS),
}
# Other classes by (module, class, registered name).
OTHER_CLASSES = frozenset(
    {
        ("keras_srt.models.batch_norm", "BatchNormalization", "keras_srt>BatchNormalization"),
        ("keras_srt.models.convolution", "Conv2D", "keras_srt>Conv2D"),
        ("keras_srt.models.dropout", "Dropout", "keras_srt>Dropout"),
        # Of keras.applications' EfficientNetV2.
        ("tensorflow.python.ops.init_ops_v2", "Constant", "Constant"),
    }
)
# The layers that Keras 2 makes of arithmetic on tensors, and the functions that they may call.
KERAS_OPERATIONS = frozenset({"SlicingOpLambda", "TFOpLambda"})
KERAS_OPERATION_MODULE = "src.layers.core.tf_op_layer"
KERAS_FUNCTIONS = _names(
    """
    __operators__.add __operators__.getitem cast clip_by_value concat expand_dims identity
    math.abs math.add math.divide math.exp math.log math.maximum math.minimum math.multiply
    math.negative math.pow math.reduce_max math.reduce_mean math.reduce_min math.reduce_sum
    math.sqrt math.square math.subtract math.truediv nn.gelu nn.l2_normalize nn.leaky_relu nn.relu
    nn.relu6 nn.silu nn.softmax reshape squeeze transpose
    """
)
# Values, which Keras reads without a lookup.
KERAS_VALUES = frozenset(
    {
        "TensorShape",
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
    }
)
KERAS_ACTIVATIONS = _names(
    """
    celu elu exponential gelu glu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu softmax softplus softsign swish tanh
    """
)

# TensorFlow's operations in a SavedModel.
OPERATIONS = _names(
    """
    Const Fill Identity IdentityN NoOp Placeholder PlaceholderWithDefault Range StopGradient
    PreventGradient OnesLike ZerosLike EnsureShape Assert CheckNumericsV2

    PartitionedCall StatefulPartitionedCall StatelessIf If StatelessWhile While StatelessCase Case
    SymbolicGradient Merge Switch Enter Exit NextIteration LoopCond

    VarHandleOp VarIsInitializedOp ReadVariableOp AssignVariableOp AssignAddVariableOp
    AssignSubVariableOp DestroyResourceOp DisableCopyOnRead VariableShape ResourceGather

    Abs Add AddN AddV2 Ceil ClipByValue Cos Cumprod Cumsum Div DivNoNan Erf Erfc Exp Expm1 Floor
    FloorDiv FloorMod Inv InvGrad IsFinite IsInf IsNan Log Log1p MatMul BatchMatMul BatchMatMulV2
    BatchMatMulV3 Einsum Maximum Minimum Mod Mul MulNoNan Neg Pow RealDiv Reciprocal ReciprocalGrad
    Rint Round Rsqrt RsqrtGrad Sigmoid SigmoidGrad Sign Sin Sqrt SqrtGrad Square SquaredDifference
    Sub Tan Tanh TanhGrad Xdivy Xlogy L2Loss

    Equal Greater GreaterEqual Less LessEqual LogicalAnd LogicalNot LogicalOr NotEqual
    ApproximateEqual Select SelectV2 Where All Any ArgMax ArgMin Bincount DenseBincount Bucketize
    Max Mean Min Prod Sum SegmentSum UnsortedSegmentSum TopK TopKV2 InTopKV2 Unique

    BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Cast Bitcast Concat
    ConcatV2 ConcatOffset DepthToSpace Diag DiagPart ExpandDims Gather GatherNd GatherV2
    InvertPermutation LinSpace MatrixBandPart MirrorPad MirrorPadGrad OneHot Pack Pad PadV2 Rank
    Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd SequenceMask Shape ShapeN Size Slice
    SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice StridedSliceGrad
    TensorScatterAdd TensorScatterUpdate Tile Transpose Unpack ConjugateTranspose

    AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BiasAdd BiasAddGrad BiasAddV1 Conv2D
    Conv2DBackpropFilter Conv2DBackpropInput Conv3D Conv3DBackpropFilterV2 Conv3DBackpropInputV2
    DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput
    Elu EluGrad FusedBatchNorm FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 LRN LeakyRelu
    LeakyReluGrad LogSoftmax MaxPool MaxPool3D MaxPool3DGrad MaxPoolGrad MaxPoolV2 Relu Relu6
    Relu6Grad ReluGrad Selu SeluGrad Softmax SoftmaxCrossEntropyWithLogits
    SparseSoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad

    AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize DecodeAndCropJpeg DecodeBase64
    DecodeImage DecodeJpeg DecodePaddedRaw DecodePng DecodeRaw ExtractImagePatches
    ExtractJpegShape HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 RGBToHSV
    ResizeArea ResizeBicubic ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
    ResizeNearestNeighborGrad ScaleAndTranslate

    RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessTruncatedNormalV2
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomNormal
    StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformInt
    StatelessRandomUniformIntV2 StatelessRandomUniformV2 RngReadAndSkip StatefulUniform
    StatefulUniformInt StatefulStandardNormalV2

    AsString ReduceJoin RegexFullMatch StaticRegexFullMatch StringFormat StringJoin StringLength
    StringSplitV2 StringToNumber Substr UnicodeDecode

    EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve
    TensorListResize TensorListSetItem TensorListStack
    """
)
# What only the functions that save and restore the variables may contain; nothing of the model may
# call them.
SAVER_OPERATIONS = OPERATIONS | {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}
