"""The jobs as Prefect flows. Whoever imports a module of this package imports Prefect.

Prefect reads what it may tell whom when it is imported, so that is said here, before.
"""

from flows.privacy import keep_private

keep_private()
