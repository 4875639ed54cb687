"""Runs cache clusters on Kubernetes."""
