"""Settings for all tests. A property has no time limit: a busy machine is no bug."""

from hypothesis import HealthCheck, settings

settings.register_profile("cachecluster", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("cachecluster")
