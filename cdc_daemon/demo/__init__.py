"""The demo: private database servers, a workload, and the real daemon between them."""
