"""The CacheCluster resource: models, names, conditions, reasons and the CRD made from them. Pure."""
