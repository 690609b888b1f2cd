class ConvFeatures: pass
