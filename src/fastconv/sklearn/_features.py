class ConvFeatures:
    pass
