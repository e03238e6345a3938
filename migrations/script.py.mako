"""${message}

House rules: one thing per revision; it imports nothing from the registry (tables change, history does not);
every constraint is named; downgrade works; data survives both ways and a test shows it.
Set registry.catalog.database.HEAD to this revision.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
