"""Declarative reconciler for fine-tuning resources of Alibaba Cloud Bailian (DashScope)."""

__version__ = "0.1.0"
