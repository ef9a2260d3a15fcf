"""The centre's view of its fleet: takes reports, and shows what no single machine shines through.

    POST -> report -> ingest -> pending reports -> release -> cells and parts -> pages, API

Everything that is shown is computed from *released* cells, each of which counts ten machines or
more (docs/explanation/fleet.md). Nothing but ``release`` reads pending reports.
"""
